#!/usr/bin/env -S python3 -B
"""Prints the bill of materials of the program: each crate that is linked into it or runs while it is built.

    packaging/sbom.py [--target TRIPLE] > sbom.cdx.json

The form is CycloneDX 1.5, JSON. It is made from `cargo metadata`, so from Cargo.lock, and is the same each time. Without
--target, the target is that of the compiler.
"""

import argparse
import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]


def metadata(target):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return json.loads(output.stdout)


def host():
    output = subprocess.run(["rustc", "-vV"], check=True, stdout=subprocess.PIPE, text=True)
    lines = (line.split(": ") for line in output.stdout.splitlines())
    return next(line[1] for line in lines if line[0] == "host")


def dependencies(nodes, root):
    """What each package that the root needs depends on, without what only tests need."""
    found, waiting = {}, [root]
    while waiting:
        package = waiting.pop()
        if package in found:
            continue
        kinds = ((dep["pkg"], [kind["kind"] for kind in dep["dep_kinds"]]) for dep in nodes[package]["deps"])
        found[package] = sorted(of for of, kinds in kinds if any(kind != "dev" for kind in kinds))
        waiting.extend(found[package])
    return found


def component(package, checksums):
    name, version = package["name"], package["version"]
    url = f"pkg:cargo/{name}@{version}"
    made = {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}
    if package["license"]:
        # An old form of "or".
        made["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if package["repository"]:
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    digest = checksums.get((name, version))
    if digest:
        made["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return made


def locked():
    """The checksums in Cargo.lock."""
    found, name, version = {}, None, None
    for line in (ROOT / "Cargo.lock").read_text().splitlines():
        key, _, value = line.partition(" = ")
        value = value.strip('"')
        if key == "name":
            name = value
        elif key == "version":
            version = value
        elif key == "checksum":
            found[(name, version)] = value
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", help="the target triple of the program")
    arguments = parser.parse_args()
    data = metadata(arguments.target or host())
    packages = {package["id"]: package for package in data["packages"]}
    root = data["resolve"]["root"]
    needed = dependencies({node["id"]: node for node in data["resolve"]["nodes"]}, root)
    checksums = locked()
    components = {package: component(packages[package], checksums) for package in needed}
    refs = {package: made["bom-ref"] for package, made in components.items()}
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**components[root], "type": "application"}},
        "components": sorted((made for package, made in components.items() if package != root), key=lambda made: made["purl"]),
        "dependencies": sorted(
            ({"ref": refs[package], "dependsOn": sorted({refs[of] for of in on})} for package, on in needed.items()),
            key=lambda entry: entry["ref"],
        ),
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
