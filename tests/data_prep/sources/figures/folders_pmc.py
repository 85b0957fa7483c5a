"""Articles of PubMed Central, made up, and packed as PubMed Central packs them."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

CC_BY = '<license xlink:href="http://creativecommons.org/licenses/by/4.0/"><license-p>CC BY.</license-p></license>'


def article_xml(
    number: int = 1,
    body: str = "",
    licence: str = CC_BY,
    kind: str = "research-article",
    meta: str = "",
    prolog: str = "",
    title: str = "A title",
) -> bytes:
    """An article in JATS; body is what stands in <body>."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>{prolog}
<article xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:mml="http://www.w3.org/1998/Math/MathML" article-type="{kind}">
<front><journal-meta><journal-title-group><journal-title>J Test</journal-title></journal-title-group></journal-meta>
<article-meta><article-id pub-id-type="pmid">{number}00</article-id><article-id pub-id-type="pmc">{number}</article-id>
<article-id pub-id-type="doi">10.1000/{number}</article-id>
<title-group><article-title>{title}</article-title></title-group>
<contrib-group><contrib contrib-type="author"><name><surname>Doe</surname><given-names>Jo</given-names></name></contrib>
<contrib contrib-type="author"><collab>The Group</collab></contrib></contrib-group>
<pub-date pub-type="epub"><year>2019</year></pub-date><pub-date pub-type="ppub"><year>2020</year></pub-date>
<volume>7</volume><fpage>12</fpage>{meta}
<permissions>{licence}</permissions></article-meta></front><body>{body}</body></article>""".encode()


def figure(name: str = "F1", graphic: str = "f1", caption: str = "<p>An axial view.</p>", extra: str = "") -> str:
    """One <fig>."""
    return (
        f'<fig id="{name}"><label>Figure {name.strip("F")}</label><caption>{caption}</caption>'
        f'<graphic xlink:href="{graphic}"/>{extra}</fig>'
    )


def write_tar(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]]) -> Path:
    """A tar.gz of members, given by name or by header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in members:
            header = tarfile.TarInfo(name) if isinstance(name, str) else name
            if header.isfile():
                header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def write_old(folder: Path, number: int, xml: bytes, files: dict[str, bytes], text: str = "paper.nxml") -> Path:
    """oa_package/xx/yy/PMCn.tar.gz."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    members = [(f"PMC{number}/{name}", data) for name, data in [*files.items(), (text, xml)]]
    return write_tar(folder / "oa_package" / digest[:2] / digest[2:4] / f"PMC{number}.tar.gz", members)


def write_list(folder: Path, rows: list[tuple[int, str, str]], name: str = "oa_file_list.csv") -> Path:
    """oa_file_list.csv from (number, licence, retracted)."""
    lines = ["File,Article Citation,Accession ID,Last Updated (YYYY-MM-DD HH:MM:SS),PMID,License,Retracted?"]
    for number, licence, retracted in rows:
        path = f"oa_package/xx/yy/PMC{number}.tar.gz"
        lines.append(f'{path},"J Test. 2020, 7:12",PMC{number},2024-01-02 03:04:05,{number}00,{licence},{retracted}')
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def write_new(
    folder: Path,
    number: int,
    version: int,
    xml: bytes,
    files: dict[str, bytes],
    beside: bool = False,
    **metadata: object,
) -> Path:
    """PMCn.v/ with metadata/PMCn.v.json, or with the metadata inside the folder (beside=True)."""
    name = f"PMC{number}.{version}"
    version_folder = folder / name
    version_folder.mkdir(parents=True)
    (version_folder / f"{name}.xml").write_bytes(xml)
    for file, data in files.items():
        (version_folder / file).write_bytes(data)
    bucket = f"s3://pmc-oa-opendata/{name}"
    content = {
        "pmcid": f"PMC{number}",
        "version": version,
        "license_code": "CC BY",
        "is_pmc_openaccess": True,
        "is_retracted": False,
        "xml_url": f"{bucket}/{name}.xml?md5={hashlib.md5(xml).hexdigest()}",
        "media_urls": [f"{bucket}/{file}?md5={hashlib.md5(data).hexdigest()}" for file, data in files.items()],
        **metadata,
    }
    target = version_folder if beside else folder / "metadata"
    target.mkdir(exist_ok=True)
    (target / f"{name}.json").write_text(json.dumps(content))
    return version_folder
