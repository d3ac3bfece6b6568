"""Drawing of judged showers: plots that take results and Axes, and the report page."""
