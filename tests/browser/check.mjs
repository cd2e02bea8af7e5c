// Opens a page in Chromium and says, as one JSON document, what a reader would meet.
//
//     node check.mjs PAGE.html FOLDER-OF-SCREENSHOTS
//
// Needs playwright-core beside it or above it, or in target/browser, and Chromium (CHROMIUM names another one).

import { createRequire } from "node:module";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [file, shots] = process.argv.slice(2);
const root = path.resolve(import.meta.dirname, "../..");
const { chromium } = createRequire(path.join(root, "target/browser/"))("playwright-core");

const context = await chromium.launchPersistentContext(mkdtempSync(path.join(tmpdir(), "page-")), {
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync"],
});
const page = await context.newPage();
const found = { requests: [], errors: [], dialogs: 0 };
page.on("request", (request) => {
  if (!/^(file|data):/.test(request.url())) found.requests.push(request.url());
});
page.on("console", (message) => {
  if (["error", "warning"].includes(message.type())) found.errors.push(message.text());
});
page.on("pageerror", (error) => found.errors.push(String(error)));
page.on("dialog", (dialog) => { found.dialogs += 1; dialog.dismiss(); });

await page.goto(pathToFileURL(path.resolve(file)).href);

Object.assign(found, await page.evaluate(() => ({
  plots: [...document.querySelectorAll("figure.plot")].map((figure) => ({
    caption: figure.querySelector("figcaption").textContent,
    points: figure.querySelectorAll(".point").length,
    numbers: figure.querySelectorAll("td.v").length,
  })),
  foreign: document.querySelectorAll("img, iframe, object, embed, main script, [onerror], [onload]").length,
  headings: [...document.querySelectorAll("tbody th")].map((cell) => cell.textContent),
  code: document.querySelector("pre")?.textContent ?? "",
})));

// The pointer, the keyboard and the legend.
const plot = page.locator("figure.plot").first();
const tip = page.locator("#tip");
await plot.scrollIntoViewIfNeeded();
const point = await plot.locator(".point").first().boundingBox();
await page.mouse.move(point.x + point.width / 2, point.y + point.height / 2);
found.hover = await tip.textContent();
await page.mouse.move(1, 1);
await plot.locator(":scope > svg").focus();
await page.keyboard.press("Home");
const first = await tip.textContent();
await page.keyboard.press("ArrowRight");
found.keys = [first, await tip.textContent()];
await page.keyboard.press("Escape");
found.hidden = await tip.isHidden();
const entry = plot.locator(".legend button").first();
if (await entry.count()) {
  await entry.click();
  found.legend = await plot.locator("g.series.off").count();
  await entry.click();
}

// Nothing may be wider than the window, in any look.
found.wide = [];
for (const scheme of ["light", "dark"]) {
  for (const width of [1280, 400]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: 900 });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (over > 0) found.wide.push(`${width} px: ${over} px too wide`);
    await page.mouse.move(1, 1);
    await page.screenshot({ path: path.join(shots, `${scheme}-${width}.png`), fullPage: true });
  }
}
await context.close();
process.stdout.write(JSON.stringify(found));
