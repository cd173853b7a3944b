"""File formats: pure translations between bytes or text and values."""
