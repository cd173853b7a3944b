"""The dialects: each file translates one API's JSON to the shared vocabulary and back, and does nothing else."""
