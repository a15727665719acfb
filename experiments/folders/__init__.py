"""Folders of one's own pictures: their layout, what their masks mean, what is wrong with them."""
