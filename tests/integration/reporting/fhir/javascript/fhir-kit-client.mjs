import Client from 'fhir-kit-client';

const [base, patientId] = process.argv.slice(2);
const client = new Client({ baseUrl: base });
const metadata = await client.capabilityStatement();
const patient = await client.read({ resourceType: 'Patient', id: patientId });
const searchParams = { patient: patientId, code: 'score', _sort: '-date', _count: '1' };
let bundle = await client.search({ resourceType: 'Observation', searchParams });
const scores = [];
let pages = 0;
while (bundle) {
  pages += 1;
  scores.push(...bundle.entry.map((entry) => entry.resource.valueQuantity.value));
  bundle = await client.nextPage({ bundle });
}
const missing = await client
  .read({ resourceType: 'Observation', id: 'none' })
  .catch((error) => error.response.status);
console.log(JSON.stringify({ fhirVersion: metadata.fhirVersion, patient: patient.id, scores, pages, missing }));
