"""Which services take a person, and in which order: eligibility, places, ranking, and the certificate of it."""
