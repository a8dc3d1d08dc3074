"""A package, since pytest ends what is shared with the last test of a package, and in a mere folder with the session."""
