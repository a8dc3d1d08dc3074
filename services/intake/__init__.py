"""The border of the bus: authenticates, validates, seals and admits what parties say, and routes it to a region's inbox."""
