"""Small network blocks shared by the models."""
