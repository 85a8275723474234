"""The addresses behind each Service: EndpointSlices, and Endpoints for older readers."""
