"""What tells two samples of showers apart: one metric a file, each a pure function of arrays."""
