"""Files of showers in, the result of judging them out."""
