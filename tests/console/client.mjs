// Makes the calls of calls.json as the Platform Console does, by axios, and prints what came back as a JSON list.
// Environment: BASE_URL (…/console), TOKEN, SAVED (a JSON object of what the calls may refer to).
import { readFileSync } from "node:fs";
import axios from "axios";

const client = axios.create({
  baseURL: process.env.BASE_URL,
  headers: { "Content-Type": "application/json" },
  // So that a refusal is an answer like any other.
  validateStatus: () => true,
});
client.interceptors.request.use((config) => {
  config.headers.Authorization = `Bearer ${process.env.TOKEN}`;
  return config;
});

const saved = JSON.parse(process.env.SAVED);

function filled(value) {
  if (typeof value === "string") return value.replace(/\{([^}]+)\}/g, (_, name) => saved[name]);
  if (Array.isArray(value)) return value.map(filled);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, filled(inner)]));
  }
  return value;
}

const calls = JSON.parse(readFileSync(new URL("calls.json", import.meta.url)));
const results = [];
for (const { call, params, body, save } of calls) {
  const [method, path] = call.split(/ (.*)/);
  const url = filled(path);
  const response = await {
    GET: () => client.get(url, { params: filled(params) }),
    POST: () => client.post(url, filled(body)),
    PUT: () => client.put(url, filled(body)),
    PATCH: () => client.patch(url, filled(body)),
    DELETE: () => client.delete(url),
  }[method]();
  if (save && response.data.id) saved[save] = response.data.id;
  results.push({ status: response.status, body: response.data });
}
console.log(JSON.stringify(results));
