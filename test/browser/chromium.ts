/** A real browser for tests: Chromium as the system has it. What is looked at is the tests'. */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";

const PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

function executablePath(): string | undefined {
  const own = process.env.CHROMIUM;
  return own ?? PATHS.find((path) => existsSync(path));
}

/** Null when `startBrowser` can be used; otherwise what to install. */
export function missingBrowser(): string | null {
  if (executablePath() !== undefined) return null;
  return "Chromium is not here: install it (Debian: apt-get install chromium) or set CHROMIUM";
}

export async function startBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: executablePath()!,
    // Containers rarely let it make namespaces of its own.
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
}

export interface Look {
  readonly width: number;
  readonly scheme: "light" | "dark";
}

/** Phone and desk, by day and by night. */
export const LOOKS: readonly Look[] = [
  { width: 1280, scheme: "light" },
  { width: 1280, scheme: "dark" },
  { width: 390, scheme: "light" },
  { width: 390, scheme: "dark" },
];

export interface OpenedPage {
  readonly page: Page;
  /** What it said in the console, asked of a network, or showed as a dialog. */
  readonly complaints: string[];
}

/** Opens a file as somebody does by a double click. */
export async function openFile(browser: Browser, file: string, look: Look): Promise<OpenedPage> {
  const page = await browser.newPage({
    viewport: { width: look.width, height: 900 },
    colorScheme: look.scheme,
  });
  const complaints: string[] = [];
  page.on("console", (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    dialog.dismiss().catch(() => undefined);
  });
  const { href } = pathToFileURL(file);
  page.on("request", (request) => {
    if (request.url().split("#")[0] !== href) complaints.push(`request: ${request.url()}`);
  });
  await page.goto(href);
  return { page, complaints };
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Rules of accessibility that are broken seriously or worse, each with its first place. */
export async function seriousViolations(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  const found: { violations: { impact: string; id: string; nodes: { html: string }[] }[] } =
    await page.evaluate("axe.run({ resultTypes: ['violations'] })");
  return found.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}, ${nodes.length} times: ${nodes[0]?.html}`);
}
