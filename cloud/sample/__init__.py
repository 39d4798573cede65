"""A sample shop drawn by our own code: invented products, packshots, photos on the shelf."""
