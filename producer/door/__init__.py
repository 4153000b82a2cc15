"""The HTTP door: a PUT is answered once RabbitMQ has confirmed its request."""
