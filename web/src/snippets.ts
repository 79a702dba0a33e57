/** The same request, as one writes it in other places. */
export type Request = { prompt: string; subjects: Record<string, unknown>[] } & Record<string, unknown>;

export const LANGUAGES = ["curl", "Python", "TypeScript", "OpenAI"] as const;
export type Language = (typeof LANGUAGES)[number];

/** A request in a language, for the service at an address and the model that it has. */
export function snippet(language: Language, request: Request, service: string, model: string): string {
  return { curl, Python: python, TypeScript: typescript, OpenAI: openai }[language](request, service, model);
}

/** JSON with each list of numbers on one line; a string of JSON has no line ends. */
const json = (value: unknown): string =>
  JSON.stringify(value, null, 2).replace(/\[\n\s*([-\d.e,\s]+?)\n\s*\]/g, (_, numbers: string) => `[${numbers.replace(/\s+/g, " ")}]`);

const countOf = ({ num_images }: Request): number => Number(num_images ?? 1);
const endingOf = ({ output_format }: Request): string => String(output_format ?? "png");

function curl(request: Request, service: string): string {
  // A quote within a quoted word of the shell.
  const body = json(request).replaceAll("'", `'\\''`);
  const numbers = Array.from({ length: countOf(request) }, (_, number) => number);
  const ending = endingOf(request);
  const fetched =
    numbers.length === 1
      ? `curl -sS --fail-with-body ${service}/jobs/$job/images/0 -o picture.${ending}`
      : `for n in ${numbers.join(" ")}; do curl -sS --fail-with-body ${service}/jobs/$job/images/$n -o picture-$n.${ending}; done`;
  return [
    `job=$(curl -sS ${service}/generate -H 'Content-Type: application/json' -d '${body}' |`,
    `  python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')`,
    `curl -sSN ${service}/jobs/$job/events > /dev/null  # ends when the picture is there`,
    fetched,
  ].join("\n");
}

/** A JSON value as Python writes it. */
function literal(value: unknown): string {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${literal(each)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** A call in Python, with one keyword on each line. */
function call(name: string, values: Record<string, unknown>, indent: string): string {
  const lines = Object.entries(values).map(([key, value]) => `${indent}    ${key}=${typeof value === "string" ? value : literal(value)},`);
  return `${name}(\n${lines.join("\n")}\n${indent})`;
}

function python(request: Request, service: string): string {
  const { prompt, subjects, loras, ...rest } = request;
  const made = subjects.map(({ phrase, image, images, ...others }) => {
    const words = Object.entries(others).map(([key, value]) => `, ${key}=${literal(value)}`);
    const shown = image ?? images;
    return `            Subject(${literal(phrase)}${shown === undefined ? "" : `, ${literal(shown)}`}${words.join("")}),`;
  });
  const weights = (loras as { name: string; weight?: number }[] | undefined)?.map(({ name, weight }) => `Lora(${literal(name)}${weight === undefined ? "" : `, ${weight}`})`);
  const lines = [
    `        ${literal(prompt)},`,
    `        subjects=[\n${made.join("\n")}\n        ],`,
    ...(weights ? [`        loras=[${weights.join(", ")}],`] : []),
    ...Object.entries(rest).map(([key, value]) => `        ${key}=${literal(value)},`),
  ];
  return [
    `from msd_client import Client, ${weights ? "Lora, " : ""}Subject`,
    "",
    `with Client(${literal(service)}) as client:`,
    `    result = client.generate(\n${lines.join("\n")}\n    )`,
    ...saving("result.pictures", "picture.content", request),
  ].join("\n");
}

/** Python that writes each of some pictures, whose bytes are `content`, to a file. */
function saving(pictures: string, content: string, request: Request): string[] {
  const ending = endingOf(request);
  const several = countOf(request) > 1;
  return [
    several ? `for number, picture in enumerate(${pictures}):` : `for picture in ${pictures}:`,
    `    with open(${several ? `f"picture-{number}.${ending}"` : `"picture.${ending}"`}, "wb") as file:`,
    `        file.write(${content})`,
  ];
}

/** It is plain JavaScript too. */
function typescript(request: Request, service: string): string {
  const body = json(request).replace(/"(\w+)":/g, "$1:");
  const ending = endingOf(request);
  const loop =
    countOf(request) > 1
      ? `for (const [number, picture] of pictures.entries()) await writeFile(\`picture-\${number}.${ending}\`, await picture.bytes());`
      : `for (const picture of pictures) await writeFile("picture.${ending}", await picture.bytes());`;
  return [
    `import { writeFile } from "node:fs/promises";`,
    `import { MsdClient } from "msd-client";`,
    "",
    `const client = new MsdClient({ baseUrl: ${JSON.stringify(service)} });`,
    `const { pictures } = await client.generate(${body});`,
    loop,
  ].join("\n");
}

/** The client for Python with its own names where it has some. */
function openai(request: Request, service: string, model: string): string {
  const { prompt, num_images, width, height, output_format, ...rest } = request;
  const isSized = width !== undefined && height !== undefined;
  const extra = isSized ? rest : { ...rest, ...(width !== undefined && { width }), ...(height !== undefined && { height }) };
  const values = {
    model: literal(model),
    prompt: literal(prompt),
    ...(num_images !== undefined && { n: num_images }),
    ...(isSized && { size: `"${width}x${height}"` }),
    ...(output_format !== undefined && { output_format: literal(output_format) }),
    extra_body: literal(extra),
  };
  return [
    "import base64",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${literal(`${service}/v1`)}, api_key="none")`,
    `result = ${call("client.images.generate", values, "")}`,
    ...saving("result.data", "base64.b64decode(picture.b64_json)", request),
  ].join("\n");
}
