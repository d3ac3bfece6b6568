"""What a calorimeter is: read-out, conditions, limits and symmetries, and a particle's line."""
