"""A GHN that writes networks, a tokenizer that cuts them into patches, a transformer that generates them."""
