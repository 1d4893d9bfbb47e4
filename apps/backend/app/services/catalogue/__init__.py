"""What is sold: plans, their prices, and under which code each provider sells them."""
