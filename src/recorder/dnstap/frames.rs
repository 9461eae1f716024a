//! Frame Streams: data frames behind their length, and control frames behind a length of 0.

/// The content type of dnstap.
const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
/// The kind of the only field of control frames.
const FIELD_CONTENT_TYPE: u32 = 1;
/// The longest control frame, without the two numbers before it.
const CONTROL_MAX: usize = 512;
/// The bytes of a number.
const NUMBER: usize = 4;

/// The kind of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Accept = 1,
    Start = 2,
    Stop = 3,
    Ready = 4,
    Finish = 5,
}

/// A control frame that is not valid here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// It is a data frame, or one of another kind.
    #[error("the receiver does not speak Frame Streams")]
    Foreign,
    /// The receiver takes other contents only.
    #[error("the receiver does not accept dnstap")]
    OtherContent,
}

/// A control frame with the content type, if it has one.
pub(super) fn control(kind: Control) -> Vec<u8> {
    let mut body = (kind as u32).to_be_bytes().to_vec();
    if matches!(kind, Control::Ready | Control::Start) {
        body.extend(FIELD_CONTENT_TYPE.to_be_bytes());
        body.extend((CONTENT_TYPE.len() as u32).to_be_bytes());
        body.extend(CONTENT_TYPE);
    }
    let mut frame = 0u32.to_be_bytes().to_vec();
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

/// Appends a data frame whose contents `write` appends.
pub(super) fn data(frames: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = frames.len();
    frames.extend([0; NUMBER]);
    write(frames);
    let length = (frames.len() - start - NUMBER) as u32;
    frames[start..start + NUMBER].copy_from_slice(&length.to_be_bytes());
}

/// Removes the control frame at the start of `received`, and returns its kind; `None` if it is not complete yet.
///
/// # Errors
/// [`FrameError`].
pub(super) fn take_control(received: &mut Vec<u8>) -> Result<Option<Control>, FrameError> {
    let number = |at: usize| {
        let bytes = received.get(at..at + NUMBER)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let (Some(escape), Some(length)) = (number(0), number(NUMBER)) else {
        return match number(0) {
            Some(1..) => Err(FrameError::Foreign),
            _ => Ok(None),
        };
    };
    let length = length as usize;
    if escape != 0 || !(NUMBER..=CONTROL_MAX).contains(&length) {
        return Err(FrameError::Foreign);
    }
    let end = 2 * NUMBER + length;
    let Some(body) = received.get(2 * NUMBER..end) else {
        return Ok(None);
    };
    let kind = match number(2 * NUMBER) {
        Some(1) => Control::Accept,
        Some(2) => Control::Start,
        Some(3) => Control::Stop,
        Some(4) => Control::Ready,
        Some(5) => Control::Finish,
        _ => return Err(FrameError::Foreign),
    };
    if kind == Control::Accept {
        accepts_dnstap(&body[NUMBER..])?;
    }
    received.drain(..end);
    Ok(Some(kind))
}

/// Checks the fields of ACCEPT: without any, all contents are accepted.
fn accepts_dnstap(mut fields: &[u8]) -> Result<(), FrameError> {
    let mut is_any = true;
    while !fields.is_empty() {
        let (head, rest) = fields
            .split_first_chunk::<{ 2 * NUMBER }>()
            .ok_or(FrameError::Foreign)?;
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (value, rest) = rest.split_at_checked(length).ok_or(FrameError::Foreign)?;
        if value == CONTENT_TYPE {
            return Ok(());
        }
        (is_any, fields) = (false, rest);
    }
    match is_any {
        true => Ok(()),
        false => Err(FrameError::OtherContent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(contents: &[&[u8]]) -> Vec<u8> {
        let mut body = 1u32.to_be_bytes().to_vec();
        for content in contents {
            body.extend(1u32.to_be_bytes());
            body.extend((content.len() as u32).to_be_bytes());
            body.extend(*content);
        }
        let mut frame = 0u32.to_be_bytes().to_vec();
        frame.extend((body.len() as u32).to_be_bytes());
        frame.extend(body);
        frame
    }

    #[test]
    fn a_control_frame_is_taken_when_it_is_complete_and_the_rest_stays() {
        let mut frame = accept(&[b"other", CONTENT_TYPE]);
        for end in 0..frame.len() {
            let mut part = frame[..end].to_vec();
            assert_eq!(take_control(&mut part), Ok(None), "{end} bytes");
            assert_eq!(part.len(), end);
        }
        frame.extend(b"more");
        assert_eq!(take_control(&mut frame), Ok(Some(Control::Accept)));
        assert_eq!(frame, b"more");
        assert_eq!(take_control(&mut accept(&[])), Ok(Some(Control::Accept)));
        let mut finish = control(Control::Finish);
        assert_eq!(take_control(&mut finish), Ok(Some(Control::Finish)));
        let mut ready = control(Control::Ready);
        assert_eq!(take_control(&mut ready), Ok(Some(Control::Ready)));
    }

    #[test]
    fn other_contents_and_other_protocols_are_refused() {
        let refused = |frame: &[u8]| take_control(&mut frame.to_vec()).expect_err("refused");
        assert_eq!(refused(&accept(&[b"text"])), FrameError::OtherContent);
        assert_eq!(refused(b"HTTP/1.1 400"), FrameError::Foreign);
        assert_eq!(
            refused(b"\0\0\0\0\xFF\xFF\xFF\xFF"),
            FrameError::Foreign,
            "too long"
        );
        let mut cut = accept(&[CONTENT_TYPE]);
        cut[16] = 1;
        assert_eq!(
            refused(&cut),
            FrameError::Foreign,
            "a field longer than its frame"
        );
    }
}
