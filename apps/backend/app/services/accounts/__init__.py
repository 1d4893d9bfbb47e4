"""Who may do what: service keys of sellers' storefronts."""
