"""What a run leaves for people: pictures, and a page that tells how it went."""
