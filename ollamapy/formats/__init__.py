"""What a file says: pure translations between bytes or text and values."""
