"""Where frames come from: image files, folders, videos, cameras and recorded bags."""
