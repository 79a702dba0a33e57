import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

export default {
  root: here("."),
  // Relative, so that it also works below a proxy's path.
  base: "./",
  resolve: { alias: { "msd-client": here("../clients/typescript/src/index.ts") } },
  build: {
    outDir: here("../app/playground/built"),
    emptyOutDir: true,
    assetsDir: "app",
    assetsInlineLimit: 0,
    target: "es2022",
    modulePreload: { polyfill: false },
  },
  server: {
    // `msd up` beside it: the page asks its own address.
    proxy: { "^/(assets|generate|inspect|jobs|models|queue|readyz|validate)": "http://127.0.0.1:8000" },
  },
};
