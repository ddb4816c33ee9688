"""Reading: resources, operations, exports."""
