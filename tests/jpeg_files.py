"""JPEG files with what cameras put into them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import ExifTags, Image

PLACE = {
    ExifTags.GPS.GPSLatitudeRef: "N",
    ExifTags.GPS.GPSLatitude: (51.0, 13.0, 37.25),
    ExifTags.GPS.GPSLongitudeRef: "E",
    ExifTags.GPS.GPSLongitude: (6.0, 46.0, 51.5),
    ExifTags.GPS.GPSProcessingMethod: b"ASCII\0\0\0FELLOWSHIP-OF-GPS",
}


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description exif:GPSLatitude="51,13.62N"'
    b" exif:GPSLongitude='6,46.86E' tiff:Make=\"CAMERA\"><exif:GPSAltitude>1233/10</exif:GPSAltitude>"
    b"<exif:GPSImgDirection/></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def jpeg(seed: int = 0, *, place: bool = True, xmp: bool = True, endian: str = "<") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif.endian = endian
    exif[ExifTags.Base.Make] = "CAMERA"
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "after the pointer no entry may be lost"
    if place:
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(PLACE)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85, exif=exif, xmp=XMP if xmp else b"")
    return buffer.getvalue()
