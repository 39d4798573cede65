// The staff's page: take photos, say what they are of, see at once whether it is known.
"use strict";

const element = (id) => document.getElementById(id);
const source = document.body.dataset.source; // "folder", "camera" or "browser"
const most = Number(document.body.dataset.most);
const VIEW_MS = 150;
const STATES = {
  kept: "kept on this device",
  proposed: "proposed",
  accepted: "accepted, comes with the next release",
  merged: "added to a known product, comes with the next release",
  refused: "refused by the cloud, not known any more",
};

let photos = []; // {id, src, problem}, in the order in which they were taken

// Talking to the device ------------------------------------------------------------------------------

async function ask(path, body, method = "POST") {
  let response;
  const isJson = body && !(body instanceof Blob);
  const headers = isJson ? { "Content-Type": "application/json" } : body ? { "Content-Type": "image/jpeg" } : {};
  try {
    response = await fetch(path, { method, headers, body: isJson ? JSON.stringify(body) : body });
  } catch {
    throw new Error("The program behind this page does not answer. Is it still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error || `The device answered ${response.status}.`);
  return answer;
}

function trouble(words) {
  element("trouble").textContent = words;
  element("trouble").hidden = !words;
}

async function attempt(work, ...buttons) {
  trouble("");
  for (const button of buttons) button.disabled = true;
  try {
    return await work();
  } catch (error) {
    trouble(error.message);
    return null;
  } finally {
    for (const button of buttons) button.disabled = false;
    showPhotos();
  }
}

// Photos ---------------------------------------------------------------------------------------------

async function shoot() {
  if (source !== "browser") return undefined; // the device takes it with its own camera
  const video = element("live");
  if (!video.videoWidth) throw new Error("The camera gives no picture. Upload photos instead.");
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
}

async function keep(photo) {
  const kept = await ask("staff/photos", photo);
  if (!photos.some((each) => each.id === kept.id)) photos.push(kept);
  showPhotos();
}

async function upload(event) {
  const chosen = [...event.target.files].slice(0, most - photos.length);
  event.target.value = "";
  await attempt(async () => {
    for (const photo of chosen) await keep(photo);
  });
}

function showPhotos() {
  element("count").textContent = `${photos.length} of at most ${most}`;
  element("take").disabled = photos.length >= most;
  element("teach").disabled = photos.length === 0;
  element("photos").replaceChildren(...photos.map((photo, place) => {
    const line = document.createElement("li");
    line.className = photo.problem ? "bad" : "";
    const remove = document.createElement("button");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove photo ${place + 1}`);
    remove.addEventListener("click", () => {
      photos = photos.filter((each) => each !== photo);
      showPhotos();
    });
    line.append(picture(photo.src, `Photo ${place + 1}`), remove);
    if (photo.problem) line.append(words(photo.problem, "small"));
    return line;
  }));
}

function picture(src, alt) {
  const image = document.createElement("img");
  image.src = src;
  image.alt = alt;
  return image;
}

function words(text, tag = "span") {
  const part = document.createElement(tag);
  part.textContent = text;
  return part;
}

// Teaching -------------------------------------------------------------------------------------------

async function teach(anyway) {
  const product = Object.fromEntries(new FormData(element("form")));
  const body = { ...product, photos: photos.map((photo) => photo.id), anyway };
  const learned = await attempt(() => ask("staff/products", body), element("teach"), element("anyway"));
  if (!learned) return;
  showConcerns(learned.added ? [] : learned.concerns);
  if (learned.added) showDone(learned);
  await showKnown();
}

function showConcerns(concerns) {
  element("concerns").hidden = concerns.length === 0;
  element("concern-list").replaceChildren(...concerns.map((concern) => {
    const line = document.createElement("li");
    if (concern.src) line.append(picture(concern.src, concern.photo));
    if (concern.like) line.append(picture(concern.like, `What speaks for ${concern.title || concern.sku}`));
    line.append(words(concern.sentence, "p"));
    return line;
  }));
  if (concerns.length) element("concerns-title").focus();
}

function showDone(learned) {
  const count = `${learned.photos} photo${learned.photos === 1 ? "" : "s"}`;
  element("done-words").textContent = `${learned.title || learned.sku} is known from ${count}, after ${Math.round(learned.ms)} ms.`;
  element("form").hidden = true;
  element("tried").hidden = true;
  element("done").hidden = false;
}

async function tryIt() {
  const answer = await attempt(async () => ask("staff/try", await shoot()), element("try"));
  if (!answer) return;
  const sure = answer.sureness ? `, ${answer.sureness}` : "";
  element("tried").textContent = `${answer.heading}: ${answer.title}${sure} (${answer.ms} ms)`;
  element("tried").dataset.tone = answer.tone;
  element("tried").hidden = false;
}

function another() {
  photos = [];
  element("form").reset();
  element("form").hidden = false;
  element("done").hidden = true;
  showConcerns([]);
  trouble("");
  showPhotos();
  element("sku").focus();
}

async function showKnown() {
  const known = await ask("staff/products", undefined, "GET");
  element("known").hidden = known.products.length === 0;
  element("products").replaceChildren(...known.products.map((product) => {
    const line = document.createElement("li");
    const about = words(product.title, "p");
    const waiting = product.unsent ? `, ${product.unsent} photos to be sent` : "";
    about.append(words(`${product.sku} · ${product.photos} photos · ${STATES[product.state]}${waiting}`));
    const forget = words("Forget", "button");
    forget.type = "button";
    forget.setAttribute("aria-label", `Forget ${product.title}`);
    forget.addEventListener("click", () => attempt(async () => {
      await ask("staff/forget", { sku: product.sku });
      await showKnown();
    }, forget));
    const shown = product.src ? picture(product.src, "") : words("");
    if (!product.src) shown.className = "none";
    line.append(shown, about, forget);
    return line;
  }));
}

// Seeing ---------------------------------------------------------------------------------------------

async function openBrowserCamera() {
  const video = element("live");
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } },
    });
    await video.play();
    video.hidden = false;
    element("view-note").textContent = "";
  } catch {
    element("view-note").textContent = "No camera here, or it may not be used. Upload photos instead.";
    element("take").hidden = true;
  }
}

async function followCamera() {
  const frame = element("frame");
  for (;;) {
    if (!document.hidden) {
      frame.src = `view.jpg?at=${Date.now()}`;
      try {
        await frame.decode();
        frame.hidden = false;
        element("view-note").textContent = "";
      } catch {
        element("view-note").textContent = "The camera gives no picture.";
      }
    }
    await new Promise((done) => setTimeout(done, VIEW_MS));
  }
}

element("take").addEventListener("click", () => attempt(async () => keep(await shoot()), element("take")));
element("files").addEventListener("change", upload);
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  teach(false);
});
element("anyway").addEventListener("click", () => teach(true));
element("try").addEventListener("click", tryIt);
element("another").addEventListener("click", another);

showPhotos();
showKnown().catch((error) => trouble(error.message));
if (source === "browser") openBrowserCamera();
if (source === "camera") followCamera();
if (source === "folder") element("view-note").textContent = "Photos come from a folder, one after another.";
