"""HTTP for storefronts and the platform: one file a resource."""
