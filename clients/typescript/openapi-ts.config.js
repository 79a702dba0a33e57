// In the document the data of a server-sent event is text that holds JSON; `watch` hands it over read.
const readData = (_name, schema) => {
  const data = schema.properties?.data;
  if (data?.contentSchema) schema.properties.data = data.contentSchema;
};

export default {
  input: "./openapi.json",
  output: { path: "./src/generated", module: { extension: ".js" } },
  parser: { patch: { schemas: readData } },
  plugins: ["@hey-api/client-fetch", "@hey-api/sdk", "@hey-api/typescript"],
};
