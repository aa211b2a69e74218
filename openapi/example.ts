// How a program in TypeScript calls the API: types from crm.d.ts, calls by openapi-fetch. `tsc` checks this file in CI.
import createClient from "openapi-fetch";
import type { components, paths } from "./crm.d.ts";

type Customer = components["schemas"]["Customer"];
type Refusal = components["schemas"]["ErrorBody"];

const token = "…"; // crm token --role admin
const crm = createClient<paths>({
  baseUrl: "http://127.0.0.1:3000",
  headers: { Authorization: `Bearer ${token}` },
});

export async function activeCustomers(search: string): Promise<Customer[]> {
  const { data, error } = await crm.GET("/admin/customers", {
    params: { query: { status: ["active"], search, sort_by: "name", sort_order: "asc", page_size: 50 } },
    // Lists of values are separated by commas.
    querySerializer: { array: { style: "form", explode: false } },
  });
  if (error) throw refused(error);
  return data.data;
}

export async function createCustomer(name: string, email: string): Promise<Customer> {
  const { data, error } = await crm.POST("/admin/customers", {
    // With the same key, trying again creates nothing twice.
    params: { header: { "Idempotency-Key": crypto.randomUUID() } },
    body: { name, email, status: "lead" },
  });
  if (error) throw refused(error);
  return data;
}

function refused(error: Refusal): Error {
  // `code` is stable; `message` is for people.
  return new Error(error.code === "EMAIL_EXISTS" ? "There is a customer with this email." : error.message);
}
