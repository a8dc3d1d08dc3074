"""What every HTTP door of the bus has: problem details, limits, bearer tokens, the operations listener, and the server."""
