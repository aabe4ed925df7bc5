//! The bucket behind the server: a folder, with what the folder alone does not know of uploads in parts.
//!
//! S3 names the parts' tags when it lists them, compares them when it joins them, lists what is unfinished, and says
//! `NoSuchUpload` of what has ended.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CopyObjectInput, CopyObjectOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput,
    DeleteObjectOutput, ETag, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsV2Input, ListObjectsV2Output,
    ListPartsInput, ListPartsOutput, MultipartUpload, PutObjectInput, PutObjectOutput, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

/// What is under way.
#[derive(Debug, Default)]
struct Parts {
    key: String,
    begun: Option<SystemTime>,
    tags: BTreeMap<i32, ETag>,
}

#[derive(Debug)]
pub(super) struct Bucket {
    folder: FileSystem,
    /// By the id of the upload.
    under_way: Mutex<BTreeMap<String, Parts>>,
}

impl Bucket {
    pub(super) fn new(folder: FileSystem) -> Self {
        Self { folder, under_way: Mutex::default() }
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<String, Parts>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn demand(&self, id: &str, key: &str) -> S3Result<()> {
        match self.under_way().get(id) {
            Some(parts) if parts.key == key => Ok(()),
            _ => Err(s3_error!(NoSuchUpload)),
        }
    }
}

#[async_trait::async_trait]
impl S3 for Bucket {
    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        self.folder.copy_object(request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.folder.delete_object(request).await
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.folder.head_bucket(request).await
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.folder.head_object(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.folder.list_objects_v2(request).await
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.folder.put_object(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let GetObjectInput { response_content_type, response_cache_control, response_content_disposition, .. } =
            request.input.clone();
        let mut response = self.folder.get_object(request).await?;
        let output = &mut response.output;
        output.content_type = response_content_type.or(output.content_type.take());
        output.cache_control = response_cache_control.or(output.cache_control.take());
        output.content_disposition = response_content_disposition.or(output.content_disposition.take());
        Ok(response)
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let key = request.input.key.clone();
        let response = self.folder.create_multipart_upload(request).await?;
        let id = response.output.upload_id.clone().ok_or_else(|| s3_error!(InternalError))?;
        let parts = Parts { key, begun: Some(SystemTime::now()), tags: BTreeMap::new() };
        self.under_way().insert(id, parts);
        Ok(response)
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let (id, number) = (request.input.upload_id.clone(), request.input.part_number);
        self.demand(&id, &request.input.key)?;
        let response = self.folder.upload_part(request).await?;
        if let (Some(parts), Some(tag)) = (self.under_way().get_mut(&id), response.output.e_tag.clone()) {
            parts.tags.insert(number, tag);
        }
        Ok(response)
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let (id, most) = (request.input.upload_id.clone(), request.input.max_parts.unwrap_or(1000));
        let after = request.input.part_number_marker.unwrap_or(0);
        self.demand(&id, &request.input.key)?;
        let mut response = self.folder.list_parts(request).await?;
        let mut parts = response.output.parts.take().unwrap_or_default();
        parts.retain(|part| part.part_number.is_some_and(|number| number > after));
        parts.sort_by_key(|part| part.part_number);
        parts.truncate(usize::try_from(most).unwrap_or(0));
        for part in &mut parts {
            let tags = self.under_way();
            part.e_tag = part.part_number.and_then(|number| tags.get(&id)?.tags.get(&number).cloned());
        }
        response.output.parts = Some(parts);
        Ok(response)
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let id = request.input.upload_id.clone();
        self.demand(&id, &request.input.key)?;
        let named = request.input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_ref());
        for part in named.into_iter().flatten() {
            let under_way = self.under_way();
            let stored = part.part_number.and_then(|number| under_way.get(&id)?.tags.get(&number));
            if stored.is_none() || stored != part.e_tag.as_ref() {
                return Err(s3_error!(InvalidPart));
            }
        }
        let response = self.folder.complete_multipart_upload(request).await?;
        self.under_way().remove(&id);
        Ok(response)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let id = request.input.upload_id.clone();
        self.demand(&id, &request.input.key)?;
        let response = self.folder.abort_multipart_upload(request).await?;
        self.under_way().remove(&id);
        Ok(response)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let (prefix, most) = (input.prefix.unwrap_or_default(), input.max_uploads.unwrap_or(1000));
        let after = (input.key_marker.unwrap_or_default(), input.upload_id_marker.unwrap_or_default());
        let mut found: Vec<_> = self
            .under_way()
            .iter()
            .map(|(id, parts)| ((parts.key.clone(), id.clone()), parts.begun))
            .filter(|(at, _)| at.0.starts_with(&prefix) && *at > after)
            .collect();
        found.sort();
        let uploads = found.into_iter().take(usize::try_from(most).unwrap_or(0)).map(|((key, id), begun)| {
            let initiated = begun.map(Into::into);
            MultipartUpload { key: Some(key), upload_id: Some(id), initiated, ..MultipartUpload::default() }
        });
        let output = ListMultipartUploadsOutput { uploads: Some(uploads.collect()), ..Default::default() };
        Ok(S3Response::new(output))
    }
}
