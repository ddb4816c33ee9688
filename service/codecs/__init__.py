"""Foreign decoders of foreign bytes, each in a child process with limits of memory and time.

``decode_frame``, ``read_picture`` and ``to_srgb`` are the whole border; worker, node and API use them alike.
"""
