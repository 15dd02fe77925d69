"""Where images come from: cameras, streams, videos, image folders."""
