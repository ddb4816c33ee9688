"""Results on their way out: deliveries, destinations, storage commitment."""
