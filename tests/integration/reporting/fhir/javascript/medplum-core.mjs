// Node 20 has no WebSocket; the client names the class when it is loaded, and uses it for subscriptions only.
globalThis.WebSocket ??= class WebSocket extends EventTarget {};
const { MedplumClient } = await import('@medplum/core');

const [base, patientId] = process.argv.slice(2);
const root = base.replace(/\/fhir$/, '/');
const client = new MedplumClient({ baseUrl: root, fhirUrlPath: 'fhir/', fetch });
const metadata = await client.get(client.fhirUrl('metadata'));
const patient = await client.readResource('Patient', patientId);
const scores = [];
let pages = 0;
const query = `patient=${patientId}&code=score&_sort=-date&_count=1`;
for await (const page of client.searchResourcePages('Observation', query)) {
  pages += 1;
  scores.push(...page.map((resource) => resource.valueQuantity.value));
}
const missing = await client
  .readResource('Observation', 'none')
  .catch((error) => (error.outcome?.issue?.[0]?.code === 'not-found' ? 404 : String(error)));
console.log(JSON.stringify({ fhirVersion: metadata.fhirVersion, patient: patient.id, scores, pages, missing }));
