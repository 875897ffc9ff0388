// A square canvas for a finger or a mouse. After every stroke it sends the ink to the page: one byte per pixel, as base64.
const canvas = element.querySelector("canvas");
const context = canvas.getContext("2d", { willReadFrequently: true });
const side = canvas.width;
let last = null;

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * side, ((event.clientY - box.top) / box.height) * side];
}

function stroke(from, to) {
  context.lineWidth = side / 11;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

function send() {
  const pixels = context.getImageData(0, 0, side, side).data;
  let text = "";
  for (let index = 3; index < pixels.length; index += 4) text += String.fromCharCode(pixels[index]);
  trigger("input", { ink: btoa(text) });
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = place(event);
  stroke(last, last);
});
canvas.addEventListener("pointermove", (event) => {
  if (last === null) return;
  const next = place(event);
  stroke(last, next);
  last = next;
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, () => {
    if (last === null) return;
    last = null;
    send();
  });
}
element.querySelector("button").addEventListener("click", () => {
  context.clearRect(0, 0, side, side);
  send();
});
