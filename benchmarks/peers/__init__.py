"""What the bus is measured beside: programs of their own, each with a docstring that says what it does less than the bus."""
