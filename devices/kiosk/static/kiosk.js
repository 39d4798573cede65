// The kiosk's page: look, show the answer, and hear from the shopper whether it is right.
"use strict";

const element = (id) => document.getElementById(id);
const source = document.body.dataset.source; // "folder", "camera" or "browser"
const intervalMs = Number(document.body.dataset.intervalMs);
const THANKS_MS = 2600;
const VIEW_MS = 100;
const GIVE_UP_CHOOSING_MS = 30000; // a shopper walks away in the middle: the next one starts anew

let current = null; // the answer on the screen
let busy = false; // a question is on its way
let paused = false; // the shopper pressed "Hold"
let asking = false; // the shopper is telling us what it is
let lookTimer = 0;
let leaveTimer = 0;

// Talking to the device ------------------------------------------------------------------------------

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { method: "POST", ...options });
  } catch {
    throw new Error("The program behind this page does not answer. Is it still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error || `The device answered ${response.status}.`);
  return answer;
}

const sendPhoto = (photo) => ask("answer", { body: photo, headers: { "Content-Type": photo.type || "image/jpeg" } });

const sendCorrection = (id, sku) =>
  ask(`answers/${id}/correct`, { body: JSON.stringify({ sku }), headers: { "Content-Type": "application/json" } });

// Looking --------------------------------------------------------------------------------------------

async function look() {
  clearTimeout(lookTimer);
  if (busy || asking) return;
  busy = true;
  try {
    const answer = source === "browser" ? await lookThroughBrowser() : await ask("look");
    if (answer && !asking) show(answer);
    trouble("");
  } catch (error) {
    if (!asking) trouble(error.message);
  } finally {
    busy = false;
    lookAgain(intervalMs);
  }
}

function lookAgain(afterMs) {
  clearTimeout(lookTimer);
  const sees = source !== "browser" || element("live").srcObject;
  if (sees && !held() && !document.hidden) lookTimer = setTimeout(look, afterMs);
}

async function lookThroughBrowser() {
  const video = element("live");
  if (!video.videoWidth) return null;
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const photo = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
  return sendPhoto(photo);
}

async function openBrowserCamera() {
  const video = element("live");
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } },
    });
    await video.play();
    video.hidden = false;
    note("");
    lookAgain(intervalMs);
  } catch {
    note("No camera here, or it may not be used. Choose a photo instead.");
    element("pause").hidden = true;
  }
}

async function followCamera() {
  // One picture after another; while the shopper reads or tells, the one that was answered stays.
  const frame = element("frame");
  for (;;) {
    const wanted = held() && current ? current.frame : `view.jpg?at=${Date.now()}`;
    if (frame.getAttribute("src") !== wanted && !document.hidden) {
      frame.src = wanted;
      try {
        await frame.decode();
        frame.hidden = false;
        note("");
      } catch {
        note("The camera gives no picture.");
      }
    }
    await new Promise((done) => setTimeout(done, VIEW_MS));
  }
}

const held = () => paused || asking;

function holdStill() {
  const video = element("live");
  if (!video.srcObject) return;
  if (held()) video.pause();
  else video.play();
}

async function answerChosenPhoto(event) {
  const [photo] = event.target.files;
  event.target.value = "";
  if (!photo) return;
  pause(true);
  try {
    show(await sendPhoto(photo), true);
    trouble("");
  } catch (error) {
    trouble(error.message);
  }
}

// Showing --------------------------------------------------------------------------------------------

function text(id, words) {
  // An unchanged line is left alone, so that a screen reader does not say it every second.
  const target = element(id);
  if (target.textContent !== words) target.textContent = words;
}

const note = (words) => text("view-note", words);

function trouble(words) {
  text("trouble", words);
  element("trouble").hidden = !words;
}

function show(answer, still = false) {
  current = answer;
  const words = answer.words;
  document.querySelector(".answer").dataset.verdict = words.tone;
  text("heading", words.heading);
  text("title", words.title);
  text("category", words.detail);
  text("price", words.price);
  element("price").hidden = !words.price;
  element("sureness").hidden = !words.sureness;
  text("sure-words", words.sureness);
  showConfidence(words.confidence);
  element("ask").hidden = !canBeTold(answer);
  element("yes").hidden = words.tone !== "match";
  text("no", words.tone === "match" ? "Not this" : "Tell us what it is");
  showRunners(answer.candidates.slice(words.tone === "match" ? 1 : 0, 4), words.others);
  text("facts", `Release ${answer.release} · ${answer.total_ms.toFixed(1)} ms`);
  if (source === "folder" || still) showStill(answer);
}

// What stands under a picture of nothing, or a smear, are no products to choose from.
const canBeTold = (answer) => answer.candidates.length > 0 && answer.words.tone !== "waiting";

function showConfidence(confidence) {
  const percent = Math.round(100 * confidence);
  element("confidence").setAttribute("aria-valuenow", String(percent));
  element("confidence").firstElementChild.style.width = `${percent}%`;
}

function showStill(answer) {
  const frame = element("frame");
  frame.src = answer.frame;
  frame.alt = answer.name;
  frame.hidden = false;
  element("live").hidden = true;
  document.body.classList.add("still");
  note("");
}

function showRunners(candidates, title) {
  element("others").hidden = !candidates.length || !title;
  text("others-title", title);
  element("runners").replaceChildren(...candidates.map((candidate) => {
    const line = document.createElement("li");
    line.className = "runner";
    line.append(span(candidate.title), span(candidate.price || ""));
    return line;
  }));
}

function span(words, tag = "span") {
  const part = document.createElement(tag);
  part.textContent = words;
  return part;
}

// Hearing --------------------------------------------------------------------------------------------

function pause(on) {
  paused = on;
  element("pause").setAttribute("aria-pressed", String(on));
  element("pause").querySelector(".label").textContent = on ? "Go on" : "Hold";
  holdStill();
  if (!on && element("live").srcObject) {
    element("live").hidden = false;
    element("frame").hidden = true;
    document.body.classList.remove("still");
  }
  if (!on) look();
}

function startAsking() {
  if (!current) return;
  asking = true;
  holdStill();
  clearTimeout(lookTimer);
  element("choices").replaceChildren(...offered(current).map(choiceButton));
  element("result").hidden = true;
  element("choose").hidden = false;
  trouble("");
  element("choose-title").focus();
  leaveTimer = setTimeout(stopAsking, GIVE_UP_CHOOSING_MS);
}

// What the shopper just refused is not offered again.
const offered = (answer) => answer.candidates.slice(answer.words.tone === "match" ? 1 : 0);

function choiceButton(candidate) {
  const line = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "choice";
  button.append(span(candidate.title), span(candidate.price || candidate.category || "", "small"));
  button.addEventListener("click", () => tell(() => sendCorrection(current.id, candidate.sku), candidate));
  line.append(button);
  return line;
}

function showChosen(candidate) {
  // Who told us what it is came to learn its price.
  document.querySelector(".answer").dataset.verdict = "match";
  text("heading", "You told us");
  text("title", candidate.title);
  text("category", candidate.category);
  text("price", candidate.price);
  element("price").hidden = !candidate.price;
  element("sureness").hidden = true;
  element("others").hidden = true;
}

async function tell(send, chosen = null) {
  clearTimeout(leaveTimer);
  clearTimeout(lookTimer);
  asking = true;
  holdStill();
  try {
    const heard = await send();
    current.told = true; // once is enough
    text("thanks", heard.thanks);
    element("thanks").hidden = false;
    element("choose").hidden = true;
    element("result").hidden = false;
    element("ask").hidden = true;
    if (chosen) showChosen(chosen);
    setTimeout(stopAsking, THANKS_MS);
  } catch (error) {
    stopAsking();
    trouble(error.message);
  }
}

function stopAsking() {
  clearTimeout(leaveTimer);
  asking = false;
  holdStill();
  element("thanks").hidden = true;
  element("choose").hidden = true;
  element("result").hidden = false;
  element("ask").hidden = !current || current.told || !canBeTold(current);
  lookAgain(0);
}

// Scanning: a bar code reader types the number under the code, faster than any finger, and Enter. --------

const KEY_MS = 60;
const SHORTEST_CODE = 8;
let typed = "";
let typedAt = 0;

function hearKey(event) {
  if (event.target.closest("input, textarea, select")) return;
  if (event.timeStamp - typedAt > KEY_MS) typed = "";
  typedAt = event.timeStamp;
  if (/^[0-9]$/.test(event.key)) {
    typed += event.key;
  } else if (event.key === "Enter" && typed.length >= SHORTEST_CODE) {
    event.preventDefault(); // else it presses the button that has the focus
    tellScanned(typed);
    typed = "";
  }
}

async function tellScanned(gtin) {
  try {
    const heard = await ask("scanned", {
      body: JSON.stringify({ gtin }),
      headers: { "Content-Type": "application/json" },
    });
    note(`Scanned: ${heard.words}`);
  } catch (error) {
    note(error.message);
  }
  setTimeout(() => note(""), THANKS_MS);
}

// Starting -------------------------------------------------------------------------------------------

document.addEventListener("visibilitychange", () => lookAgain(0));
document.addEventListener("keydown", hearKey);
element("pause").addEventListener("click", () => pause(!paused));
element("next").addEventListener("click", look);
element("file").addEventListener("change", answerChosenPhoto);
element("yes").addEventListener("click", () => tell(() => ask(`answers/${current.id}/confirm`)));
element("no").addEventListener("click", startAsking);
element("none").addEventListener("click", () => tell(() => sendCorrection(current.id, null)));
element("back").addEventListener("click", stopAsking);

element("next").hidden = source !== "folder";
element("pick").hidden = source !== "browser";
if (source === "browser") openBrowserCamera();
if (source === "camera") followCamera();
if (source !== "browser") look();
