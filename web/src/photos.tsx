import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { addPictures, MAX_PICTURES } from "./arrive.ts";
import { cutoutOf } from "./cutouts.ts";
import { setSubject, type Subject } from "./document.ts";
import { FileInput } from "./fields.tsx";
import { keepFocus } from "./focus.ts";
import { CARD, carried } from "./gestures.ts";
import { Icon } from "./icons.tsx";
import { missingWords, sendingAgainHelps } from "./messages.ts";
import { isBlank, isLasting, markMissing, pictureOf, reasonOf, sendAgain } from "./pictures.ts";

/** The pictures of a subject; by them its card is dragged. */
export function Photos({ subject, at }: { subject: Subject; at: string }) {
  const input = useRef<HTMLInputElement>(null);
  const { key, phrase, pictures } = subject;
  const name = phrase || "unnamed";
  return (
    <div
      class="pictures"
      data-at={`${at}/image`}
      data-count={Math.min(pictures.length, 4)}
      draggable
      title="Drag it onto the stage"
      onDragStart={({ dataTransfer }) => {
        dataTransfer?.setData(CARD, key);
        carried.value = key;
      }}
      onDragEnd={() => (carried.value = null)}
    >
      {pictures.map((picture) => (
        <Thumbnail key={picture} picture={picture} name={name} onRemove={() => without(subject, picture)} />
      ))}
      {pictures.length < MAX_PICTURES && (
        <button type="button" class="thumbnail more" aria-label={`Add a picture of ${name}`} title="Add a picture: several of one subject are better than one" onClick={() => input.current!.click()}>
          <Icon name={pictures.length === 0 ? "picture" : "plus"} />
        </button>
      )}
      <FileInput input={input} label={`Pictures of ${name}`} onFiles={(files) => addPictures(key, files)} />
    </div>
  );
}

const without = ({ key, pictures }: Subject, picture: string): void => setSubject(key, { pictures: pictures.filter((one) => one !== picture) });

/** A picture that can be removed. */
export function Thumbnail({ picture, name, onRemove }: { picture: string; name: string; onRemove: () => void }) {
  const known = pictureOf(picture);
  const { url, state } = known;
  return (
    <div class="thumbnail" data-state={state} title={state === "unseen" ? "The service has this picture, but cannot show it" : undefined}>
      {isBlank(known) ? <Icon name="picture" /> : <img src={url} alt={`Picture of ${name}`} draggable={false} onError={() => void markMissing(picture)} />}
      <button type="button" class="thumbnail-remove" aria-label={`Remove this picture of ${name}`} title="Remove" onClick={onRemove}>
        <Icon name="close" />
      </button>
    </div>
  );
}

/** What is wrong with pictures, and what to do about it. */
export function PictureProblems({ pictures, onFiles, onRemove }: { pictures: string[]; onFiles: (files: File[]) => void; onRemove: (picture: string) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const missing = pictures.filter((picture) => pictureOf(picture).state === "missing");
  return (
    <>
      {pictures.map((picture) => (
        <NotSent key={picture} picture={picture} onRemove={() => onRemove(picture)} />
      ))}
      {[true, false].map((wereThere) => (
        <Missing key={wereThere} count={missing.filter((picture) => isLasting(picture) === wereThere).length} wereThere={wereThere} onChoose={() => input.current!.click()} />
      ))}
      <FileInput input={input} label="Pictures that are missing" onFiles={onFiles} />
    </>
  );
}

function Missing({ count, wereThere, onChoose }: { count: number; wereThere: boolean; onChoose: () => void }) {
  if (count === 0) return null;
  const { words, remedy } = missingWords(count, wereThere);
  return (
    <p class="problem" role="alert">
      {words}{" "}
      <button type="button" class="link" onClick={onChoose}>
        {remedy}
      </button>
    </p>
  );
}

/** Why the service has not a picture, and what to do about it. */
export function NotSent({ picture, onRemove }: { picture: string; onRemove?: () => void }) {
  const known = pictureOf(picture);
  const reason = reasonOf(known);
  if (reason === "") return null;
  return (
    <p class="problem" role="alert">
      {reason}{" "}
      {known.state === "unsent" && sendingAgainHelps(known.error!) && (
        <button type="button" class="link" onClick={() => keepFocus(() => sendAgain(picture))}>
          Send it again
        </button>
      )}
      {onRemove && (
        <button type="button" class="link" onClick={onRemove}>
          Remove it
        </button>
      )}
    </p>
  );
}

export function SubjectPictureProblems({ subject }: { subject: Subject }) {
  return <PictureProblems pictures={subject.pictures} onFiles={(files) => addPictures(subject.key, files)} onRemove={(picture) => without(subject, picture)} />;
}

/** What the model sees of the pictures of a subject that is cut out. */
export function CutOuts({ pictures, name }: { pictures: string[]; name: string }) {
  if (pictures.length === 0) return null;
  return (
    <figure class="cutouts">
      {pictures.map((picture) => (
        <CutOut key={picture} picture={picture} name={name} />
      ))}
      <figcaption>What the model sees</figcaption>
    </figure>
  );
}

function CutOut({ picture, name }: { picture: string; name: string }) {
  const url = useSignal("");
  const failed = useSignal("");
  useEffect(() => {
    const gone = new AbortController();
    cutoutOf(picture, gone.signal).then(
      (made) => (url.value = made),
      (error: Error) => !gone.signal.aborted && (failed.value = error.message),
    );
    return () => gone.abort();
  }, [picture]);
  if (failed.value) return <p class="problem">{failed.value}</p>;
  return <div class="cutout">{url.value ? <img src={url.value} alt={`${name}, cut out`} /> : <span role="status">Cutting it out …</span>}</div>;
}
