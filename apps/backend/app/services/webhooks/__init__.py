"""News to the seller (Standard Webhooks): what is told, to whom, and how it gets there once at least, whoever is away."""
