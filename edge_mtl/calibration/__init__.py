"""Which frames INT8 ranges are learnt from: loading, sampling, and keeping held-out frames apart."""
