"""Who is speaking: tokens, their verification, and the caller they name."""
