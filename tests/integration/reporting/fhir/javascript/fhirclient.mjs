import FHIR from 'fhirclient';

const [base, patientId] = process.argv.slice(2);
const request = { url: '/', headers: { host: 'localhost' } };
const storage = { get: async () => undefined, set: async (_, value) => value, unset: async () => true };
const client = FHIR(request, {}, storage).client({ serverUrl: base });
const metadata = await client.request('metadata');
const patient = await client.request(`Patient/${patientId}`);
const scores = [];
let pages = 0;
await client.request(`Observation?patient=${patientId}&code=score&_sort=-date&_count=1`, {
  pageLimit: 0,
  onPage: (bundle) => {
    pages += 1;
    scores.push(...bundle.entry.map((entry) => entry.resource.valueQuantity.value));
  },
});
const missing = await client.request('Observation/none').catch((error) => error.status ?? error.statusCode);
console.log(JSON.stringify({ fhirVersion: metadata.fhirVersion, patient: patient.id, scores, pages, missing }));
