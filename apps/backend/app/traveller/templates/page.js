"use strict";
(function () {
  var said = document.getElementById("said");

  // Where the clipboard may not be written to (an in-app browser, plain http), the text is selected and copied the old way.
  function selected(source) {
    var range = document.createRange();
    range.selectNodeContents(source);
    var selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    return document.execCommand("copy");
  }

  document.querySelectorAll("button[data-copy]").forEach(function (button) {
    var label = button.textContent;
    var source = document.getElementById(button.dataset.copy);
    function tell() {
      button.textContent = button.dataset.done;
      said.textContent = button.dataset.done;
      setTimeout(function () {
        button.textContent = label;
        said.textContent = "";
      }, 3000);
    }
    button.hidden = false;
    button.addEventListener("click", function () {
      var written = navigator.clipboard ? navigator.clipboard.writeText(source.textContent) : Promise.reject();
      written.then(tell, function () {
        if (selected(source)) tell();
      });
    });
  });

  // Who comes back to the page wants to know how it is now. Not by a clock: that costs battery, and offline the page would be gone.
  if (document.querySelector(".again")) {
    var wasHidden = false;
    document.addEventListener("visibilitychange", function () {
      if (document.hidden) wasHidden = true;
      else if (wasHidden && navigator.onLine) location.reload();
    });
  }
})();
