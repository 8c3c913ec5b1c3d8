"""Speed, memory and start-up time, beside other engines on the same cases."""
