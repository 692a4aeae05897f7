"""The R4 names that this server knows: resource types, what each can be searched by, the Patient compartment.

Source: FHIR R4 (4.0.1) resource list, search parameter registry and CompartmentDefinition "patient".
"""

from __future__ import annotations

FHIR_VERSION = "4.0.1"


def names(text: str) -> frozenset[str]:
    """Return the words of `text`."""
    return frozenset(text.split())


RESOURCE_TYPES = names(
    """
    Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic
    Binary BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam CatalogEntry
    ChargeItem ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem Communication
    CommunicationRequest CompartmentDefinition Composition ConceptMap Condition Consent Contract Coverage
    CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device DeviceDefinition DeviceMetric
    DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference EffectEvidenceSynthesis
    Encounter Endpoint EnrollmentRequest EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceVariable
    ExampleScenario ExplanationOfBenefit FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse
    HealthcareService ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation
    ImplementationGuide InsurancePlan Invoice Library Linkage List Location Measure MeasureReport Media Medication
    MedicationAdministration MedicationDispense MedicationKnowledge MedicationRequest MedicationStatement
    MedicinalProduct MedicinalProductAuthorization MedicinalProductContraindication MedicinalProductIndication
    MedicinalProductIngredient MedicinalProductInteraction MedicinalProductManufactured MedicinalProductPackaged
    MedicinalProductPharmaceutical MedicinalProductUndesirableEffect MessageDefinition MessageHeader
    MolecularSequence NamingSystem NutritionOrder Observation ObservationDefinition OperationDefinition
    OperationOutcome Organization OrganizationAffiliation Parameters Patient PaymentNotice PaymentReconciliation
    Person PlanDefinition Practitioner PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse
    RelatedPerson RequestGroup ResearchDefinition ResearchElementDefinition ResearchStudy ResearchSubject
    RiskAssessment RiskEvidenceSynthesis Schedule SearchParameter ServiceRequest Slot Specimen SpecimenDefinition
    StructureDefinition StructureMap Subscription Substance SubstanceNucleicAcid SubstancePolymer SubstanceProtein
    SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification SupplyDelivery SupplyRequest Task
    TerminologyCapabilities TestReport TestScript ValueSet VerificationResult VisionPrescription
    """
)

WITH_IDENTIFIER = names(
    """
    Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse Basic
    BiologicallyDerivedProduct BodyStructure Bundle CarePlan CareTeam CatalogEntry ChargeItem ChargeItemDefinition
    Claim ClaimResponse ClinicalImpression CodeSystem Communication CommunicationRequest Composition ConceptMap
    Condition Consent Contract Coverage CoverageEligibilityRequest CoverageEligibilityResponse DetectedIssue Device
    DeviceDefinition DeviceMetric DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest
    DocumentReference EffectEvidenceSynthesis Encounter Endpoint EnrollmentRequest EnrollmentResponse EpisodeOfCare
    EventDefinition Evidence EvidenceVariable ExampleScenario ExplanationOfBenefit FamilyMemberHistory Flag Goal
    Group GuidanceResponse HealthcareService ImagingStudy Immunization ImmunizationEvaluation
    ImmunizationRecommendation InsurancePlan Invoice Library List Location Measure MeasureReport Media Medication
    MedicationAdministration MedicationDispense MedicationRequest MedicationStatement MedicinalProduct
    MedicinalProductAuthorization MedicinalProductIngredient MedicinalProductPackaged MedicinalProductPharmaceutical
    MessageDefinition MolecularSequence NutritionOrder Observation ObservationDefinition Organization
    OrganizationAffiliation Patient PaymentNotice PaymentReconciliation Person PlanDefinition Practitioner
    PractitionerRole Procedure Questionnaire QuestionnaireResponse RelatedPerson RequestGroup ResearchDefinition
    ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment RiskEvidenceSynthesis Schedule
    ServiceRequest Slot Specimen SpecimenDefinition StructureDefinition StructureMap Substance
    SubstanceSpecification SupplyDelivery SupplyRequest Task TestReport TestScript ValueSet VisionPrescription
    """
)

WITH_CODE = names(
    """
    ActivityDefinition AllergyIntolerance Basic ChargeItem ChargeItemDefinition ClinicalImpression Condition
    DetectedIssue DiagnosticReport Flag Group List Medication MedicationKnowledge Observation ObservationDefinition
    OrganizationAffiliation PractitionerRole Procedure RequestGroup RiskAssessment ServiceRequest Substance Task
    """
)

WITH_SUBJECT = names(
    """
    Account AdverseEvent Basic CarePlan CareTeam ChargeItem ClinicalImpression Communication CommunicationRequest
    Composition Condition Contract DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest
    DocumentReference Encounter Flag Goal GuidanceResponse ImagingStudy Invoice List MeasureReport Media
    MedicationAdministration MedicationDispense MedicationRequest MedicationStatement Observation Procedure
    QuestionnaireResponse RequestGroup RiskAssessment ServiceRequest Specimen
    """
)

_COMPARTMENT = """
Account subject
AdverseEvent subject
AllergyIntolerance patient recorder asserter
Appointment participant.actor
AppointmentResponse actor
AuditEvent agent.who entity.what
Basic subject author
BodyStructure patient
CarePlan subject activity.detail.performer
CareTeam subject participant.member
ChargeItem subject
Claim patient payee.party
ClaimResponse patient
ClinicalImpression subject
Communication subject sender recipient
CommunicationRequest subject sender recipient requester
Composition subject author attester.party
Condition subject asserter
Consent patient
Coverage policyHolder subscriber beneficiary payor
CoverageEligibilityRequest patient
CoverageEligibilityResponse patient
DetectedIssue patient
DeviceRequest subject performer
DeviceUseStatement subject
DiagnosticReport subject
DocumentManifest subject author recipient
DocumentReference subject author
Encounter subject
EnrollmentRequest candidate
EpisodeOfCare patient
ExplanationOfBenefit patient payee.party
FamilyMemberHistory patient
Flag subject
Goal subject
Group member.entity
ImagingStudy subject
Immunization patient
ImmunizationEvaluation patient
ImmunizationRecommendation patient
Invoice subject recipient
List subject source
MeasureReport subject
Media subject
MedicationAdministration subject performer.actor
MedicationDispense subject receiver
MedicationRequest subject
MedicationStatement subject
MolecularSequence patient
NutritionOrder patient
Observation subject performer
Patient link.other
Person link.target
Procedure subject performer.actor
Provenance target
QuestionnaireResponse subject author
RelatedPerson patient
RequestGroup subject action.participant
ResearchSubject individual
RiskAssessment subject
Schedule actor
ServiceRequest subject performer
Specimen subject
SupplyDelivery patient
SupplyRequest requester
VisionPrescription patient
"""
COMPARTMENT: dict[str, tuple[str, ...]] = {
    kind: tuple(paths) for kind, *paths in (line.split() for line in _COMPARTMENT.split("\n") if line)
}
"""Per type the elements that put a resource into a patient's compartment."""

_PATIENT_OTHERWISE = {
    "Appointment": ("participant.actor",),
    "AppointmentResponse": ("actor",),
    "AuditEvent": ("agent.who", "entity.what"),
    "Coverage": ("beneficiary",),
    "Device": ("patient",),
    "EnrollmentRequest": ("candidate",),
    "Person": ("link.target",),
    "Provenance": ("target",),
    "ResearchSubject": ("individual",),
    "Task": ("for",),
}
PATIENT_ELEMENTS: dict[str, tuple[str, ...]] = {
    **{kind: ("patient",) for kind, paths in COMPARTMENT.items() if "patient" in paths},
    **dict.fromkeys(WITH_SUBJECT, ("subject",)),
    **_PATIENT_OTHERWISE,
}
"""Per type the elements that the search parameter `patient` looks at."""

COMMON_PARAMETERS = ("_id", "_lastUpdated")


def parameters_of(kind: str) -> tuple[str, ...]:
    """Return the search parameters of resource type `kind`."""
    named = {"identifier": WITH_IDENTIFIER, "code": WITH_CODE, "subject": WITH_SUBJECT, "patient": PATIENT_ELEMENTS}
    return (*COMMON_PARAMETERS, *(name for name, kinds in named.items() if kind in kinds))
