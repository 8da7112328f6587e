"""The bytes that TensorBoard's own writer gives for the events in src/report/tensorboard.rs; `pip install tensorboard`."""

import io

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

out = io.BytesIO()
writer = RecordWriter(out)
writer.write(event_pb2.Event(wall_time=1, file_version="brain.Event:2").SerializeToString(deterministic=True))
values = [("train/loss", 2.25), ("learning_rate", 0.5), ("epsilon", 0.25)]
summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in values])
writer.write(event_pb2.Event(wall_time=2.5, step=3, summary=summary).SerializeToString(deterministic=True))
print(out.getvalue().hex())
