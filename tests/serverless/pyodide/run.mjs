// node run.mjs PYODIDE ARCHIVE SCRIPT: run the `main` of a Python script in Pyodide.
//
// PYODIDE is the folder of the npm package, ARCHIVE a zip of Python packages. The script has the
// environment of this process. The first line that is printed is what the start has taken, in seconds
// of processor time, which a busy machine does not stretch.
import { readFileSync } from "node:fs";

const [folder, archive, script] = process.argv.slice(2);
const seconds = {};

async function measured(name, step) {
  const begin = process.cpuUsage();
  const result = await step();
  const { user, system } = process.cpuUsage(begin);
  seconds[name] = (user + system) / 1e6;
  return result;
}

const { loadPyodide } = await import(`${folder}/pyodide.mjs`);
const env = { HOME: "/home/pyodide", ...process.env };
const pyodide = await measured("Pyodide", () => loadPyodide({ env }));
pyodide.unpackArchive(new Uint8Array(readFileSync(archive)), "zip", { extractDir: "/packages" });
pyodide.runPython("import sys; sys.path.append('/packages')");
for (const name of ["upstash_state", "requests"]) {
  await measured(name, () => pyodide.runPython(`import ${name}`));
}
console.log(JSON.stringify(seconds));
try {
  pyodide.runPython(readFileSync(script, "utf8"), { filename: script });
  await pyodide.globals.get("main")();
  process.exit(0);
} catch (error) {
  console.error(String(error));
  process.exit(1);
}
