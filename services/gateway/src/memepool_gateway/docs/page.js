// Draws the OpenAPI document. All text goes in as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function modelName(reference) {
  return reference.split("/").pop();
}

// A type as a reader says it: "string (uuid) or null", "list of Round".
function typeOf(schema) {
  if (!schema) return ["anything"];
  if (schema.$ref) {
    const name = modelName(schema.$ref);
    return [element("a", { href: `#model-${name}` }, name)];
  }
  if (schema.anyOf || schema.allOf) {
    const parts = (schema.anyOf || schema.allOf).map(typeOf);
    return parts.flatMap((part, index) => (index ? [" or ", ...part] : part));
  }
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
  if (schema.type === "array") return ["list of ", ...typeOf(schema.items)];
  const limits = [];
  if (schema.format) limits.push(schema.format);
  if (schema.minimum !== undefined) limits.push(`≥ ${schema.minimum}`);
  if (schema.maximum !== undefined) limits.push(`≤ ${schema.maximum}`);
  if (schema.minLength !== undefined) limits.push(`at least ${schema.minLength} characters`);
  if (schema.maxLength !== undefined) limits.push(`at most ${schema.maxLength} characters`);
  return [schema.type || "anything", limits.length ? ` (${limits.join(", ")})` : ""];
}

function table(caption, headings, rows) {
  const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map((cells) =>
    element("tr", {}, ...cells.map((cell) => element("td", {}, ...[cell].flat()))),
  );
  return element(
    "table", {},
    element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body),
  );
}

function fields(caption, schema) {
  const required = new Set(schema.required || []);
  const rows = Object.entries(schema.properties || {}).map(([name, field]) => [
    element("code", {}, name),
    typeOf(field),
    required.has(name) ? "" : "optional",
    field.description || "",
  ]);
  return table(caption, ["Field", "Type", "", ""], rows);
}

function contents(holder) {
  return Object.entries((holder && holder.content) || {});
}

function operation(path, method, call) {
  const box = element("article", { id: call.operationId });
  box.append(
    element("span", { class: `method ${method}` }, method.toUpperCase()), " ",
    element("h3", { class: "path" }, path),
  );
  if (call["x-not-built-yet"]) {
    box.append(element("span", { class: "later" }, "not built yet: answers 501"));
  }
  box.append(element("p", {}, call.summary || ""));
  if (call.description && call.description !== call.summary) {
    box.append(element("p", { class: "prose" }, call.description));
  }
  const needsToken = (call.security || []).length > 0;
  box.append(element("p", { class: "faint" },
    `${call.operationId}${needsToken ? " · takes a bearer token" : ""}`));
  if ((call.parameters || []).length) {
    box.append(table("Parameters", ["Name", "In", "Type", "", ""], call.parameters.map((one) => [
      element("code", {}, one.name), one.in, typeOf(one.schema),
      one.required ? "" : "optional", one.description || (one.schema || {}).description || "",
    ])));
  }
  for (const [mediaType, content] of contents(call.requestBody)) {
    const schema = content.schema || {};
    box.append(element("p", {}, element("strong", {}, "Body "), `${mediaType}: `,
      ...typeOf(schema)));
  }
  const answers = Object.entries(call.responses || {}).map(([status, answer]) => [
    element("code", {}, status), answer.description || "",
    contents(answer).flatMap(([mediaType, content]) => [`${mediaType}: `,
      ...typeOf(content.schema), " "]),
  ]);
  box.append(table("Answers", ["Status", "Meaning", "Body"], answers));
  return box;
}

function draw(api) {
  const main = document.getElementById("content");
  const contentsList = document.getElementById("contents");
  main.replaceChildren();
  document.getElementById("about").textContent = api.info.description || "";
  const entries = [];
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      const tag = (item[method].tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push([path, method, item[method]]);
    }
  }
  for (const [tag, calls] of groups) {
    main.append(element("h2", { id: `tag-${tag}` }, tag));
    const list = element("ul");
    for (const [path, method, call] of calls) {
      const box = operation(path, method, call);
      const link = element("li", {}, element("a", { href: `#${call.operationId}` },
        element("span", { class: `method ${method}` }, method.toUpperCase()), ` ${path}`));
      entries.push({ box, link, text: `${box.textContent}`.toLowerCase() });
      main.append(box);
      list.append(link);
    }
    contentsList.append(element("strong", {}, tag), list);
  }
  main.append(element("h2", { id: "models" }, "models"));
  for (const [name, schema] of Object.entries((api.components || {}).schemas || {})) {
    main.append(element("article", { id: `model-${name}` },
      element("h3", {}, name),
      element("p", { class: "prose" }, schema.description || ""),
      schema.properties ? fields("Fields", schema) : element("p", {}, ...typeOf(schema))));
  }
  const count = document.getElementById("count");
  const filter = document.getElementById("filter");
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { box, link, text } of entries) {
      const found = words.every((word) => text.includes(word));
      box.hidden = !found;
      link.hidden = !found;
      shown += found ? 1 : 0;
    }
    count.textContent = `${shown} of ${entries.length} calls`;
  };
  filter.addEventListener("input", apply);
  apply();
  if (location.hash) {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) target.scrollIntoView();
  }
}

fetch("/openapi.json")
  .then((answer) => {
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return answer.json();
  })
  .then(draw)
  .catch((error) => {
    document.getElementById("content").textContent = `openapi.json could not be read: ${error.message}`;
  });
