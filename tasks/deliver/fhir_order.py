"""In which order resources go to a FHIR server: what others refer to first, a cycle together, one writer a patient."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from tasks.deliver.port import Item
from tasks.model import Resource

_REFERENCE = re.compile(rb'"reference"\s*:\s*"((?:[^"\\]|\\.)*)"')
_LOCAL = re.compile(r"([A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})(?:/_history/[^/]+)?")
_OF_PATIENT = ("subject", "patient", "beneficiary", "individual")

RANK = {
    name: rank
    for rank, names in enumerate(
        (
            ("Organization", "CodeSystem", "ValueSet", "ConceptMap", "StructureDefinition", "NamingSystem"),
            ("Endpoint", "Location", "Practitioner", "Substance", "Medication", "Questionnaire"),
            ("HealthcareService", "PractitionerRole", "Device", "Schedule", "PlanDefinition", "ActivityDefinition"),
            ("Patient",),
            ("RelatedPerson", "Person", "Group", "Slot", "Account", "Coverage"),
            ("EpisodeOfCare", "Appointment", "Specimen", "CareTeam", "Goal"),
            ("ServiceRequest", "Encounter", "Condition", "AllergyIntolerance", "FamilyMemberHistory"),
            ("Procedure", "MedicationRequest", "Observation", "ImagingStudy", "Immunization", "Media", "Binary"),
            ("MedicationDispense", "MedicationAdministration", "MedicationStatement", "QuestionnaireResponse"),
            ("DiagnosticReport", "CarePlan", "DocumentReference", "Claim", "ChargeItem", "Task", "Communication"),
            ("ExplanationOfBenefit", "Invoice", "Composition", "List", "MessageHeader", "Flag", "Basic"),
            ("Provenance", "AuditEvent"),
        )
    )
    for name in names
}
"""Where what is inside says nothing (deletions, types that refer to each other): types by how others use them."""
MIDDLE = 8


@dataclass(slots=True, eq=False)
class Entry:
    """One item, ready to be sent.

    - `key` is `Type/id`; `body` is the resource as JSON, empty for a deletion.
    - `references` are the keys of what it refers to; `lane` is the patient that it belongs to, or itself.
    - `cycle` is the first key of the cycle that it is in, empty where it is in none.
    """

    item: Item
    key: str
    body: bytes
    references: tuple[str, ...]
    lane: str
    cycle: str = ""

    @property
    def deletes(self) -> bool:
        """Whether the thing is to be deleted."""
        return self.item.resource is None

    @property
    def group(self) -> str:
        """The same for all that only goes together."""
        return self.cycle or self.key


def rank(resource_type: str) -> int:
    """Return the type's place: smaller goes first."""
    return RANK.get(resource_type, MIDDLE)


def local(reference: str, base: str = "") -> str | None:
    """Return the key (`Type/id`) that a reference names at the server `base`; None for one to elsewhere or inside."""
    text = reference.removeprefix(base + "/") if base else reference
    match = _LOCAL.fullmatch(text)
    return match[1] if match else None


def references(body: bytes, base: str = "") -> tuple[str, ...]:
    """Return the keys that a resource's JSON refers to at the server `base`."""
    # A regular expression over the bytes: a quote inside a JSON string is escaped, so that it cannot be misled.
    found: dict[str, None] = {}
    for raw in _REFERENCE.findall(body):
        text = json.loads(b'"' + raw + b'"') if b"\\" in raw else raw.decode()
        if key := local(text, base):
            found[key] = None
    return tuple(found)


def lane(resource: Resource, key: str, base: str = "") -> str:
    """Return the key of the patient that a resource belongs to, or its own."""
    for name in _OF_PATIENT:
        value = resource.get(name)
        reference = value.get("reference") if isinstance(value, dict) else None
        patient = local(reference, base) if isinstance(reference, str) else None
        if patient:
            return patient
    return key


def waves(entries: Iterable[Entry]) -> list[list[list[Entry]]]:
    """Return waves of groups: a wave refers to earlier ones only; a group of several is a cycle and stays together.

    Deletions come last, what refers before what is referred to.
    """
    kept = {entry.key: entry for entry in entries if not entry.deletes}
    levels: dict[str, int] = {}
    out: list[list[list[Entry]]] = []
    for group in cycles({key: [k for k in e.references if k in kept and k != key] for key, e in kept.items()}):
        members = [kept[key] for key in group]
        for entry in members if len(members) > 1 else ():
            entry.cycle = group[0]
        # What is in the group itself has no level yet, like what is not here at all.
        level = 1 + max((levels.get(key, -1) for entry in members for key in entry.references), default=-1)
        levels.update(dict.fromkeys(group, level))
        out += [[] for _ in range(level + 1 - len(out))]
        out[level].append(members)
    by_rank: dict[int, list[list[Entry]]] = {}
    for entry in entries:
        if entry.deletes:
            by_rank.setdefault(-rank(entry.item.resource_type), []).append([entry])
    return out + [by_rank[number] for number in sorted(by_rank)]


def cycles(edges: dict[str, list[str]]) -> list[tuple[str, ...]]:
    """Return the strongly connected components of a graph, what is pointed to before what points (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    waiting: set[str] = set()
    out: list[tuple[str, ...]] = []
    for root, targets in edges.items():
        if root in index:
            continue
        # An explicit stack: a chain of a hundred thousand references must not be a chain of calls.
        work = [(root, iter(targets))]
        index[root] = low[root] = len(index)
        stack.append(root)
        waiting.add(root)
        while work:
            node, following = work[-1]
            target = next(following, None)
            if target is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    out.append(_component(node, stack, waiting))
            elif target not in index:
                index[target] = low[target] = len(index)
                stack.append(target)
                waiting.add(target)
                work.append((target, iter(edges[target])))
            elif target in waiting:
                low[node] = min(low[node], index[target])
    return out


def _component(root: str, stack: list[str], waiting: set[str]) -> tuple[str, ...]:
    at = len(stack) - 1
    while stack[at] != root:
        at -= 1
    members = tuple(stack[at:])
    del stack[at:]
    waiting.difference_update(members)
    return members


def lanes(groups: Sequence[list[Entry]], most: int) -> list[list[Entry]]:
    """Divide a wave into at most `most` lanes of about equal size; everything of one patient is in one lane."""
    patients: dict[str, list[Entry]] = {}
    for group in groups:
        patients.setdefault(group[0].lane, []).extend(group)
    out: list[list[Entry]] = [[] for _ in range(max(1, min(most, len(patients))))]
    for members in sorted(patients.values(), key=len, reverse=True):
        min(out, key=len).extend(members)
    return [found for found in out if found]


def bundles(entries: Iterable[Entry], limits: Callable[[], tuple[int, int]]) -> Iterator[list[Entry]]:
    """Cut a lane into bundles, a cycle never; `limits` says for each how many entries and about how many bytes."""
    bundle: list[Entry] = []
    full = 0
    for group in groups_of(entries):
        length = sum(len(entry.body) for entry in group)
        most, size = limits()
        if bundle and (len(bundle) + len(group) > most or full + length > size):
            yield bundle
            bundle, full = [], 0
        bundle += group
        full += length
    if bundle:
        yield bundle


def halves(bundle: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Cut a bundle in the middle, beside a cycle rather than through it; through it where it is all there is."""
    groups = groups_of(bundle)
    ends = list(accumulate(map(len, groups)))[:-1] or [(len(bundle) + 1) // 2]
    middle = min(ends, key=lambda end: abs(2 * end - len(bundle)))
    return list(bundle[:middle]), list(bundle[middle:])


def groups_of(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Divide a lane or a bundle into what only goes together: cycles, and the rest one by one."""
    return [list(group) for _, group in groupby(entries, lambda entry: entry.group)]
